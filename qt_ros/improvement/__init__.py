"""One round after another: act, judge, remember, learn, compare, keep the better policy."""
