"""`python -m qt_ros.cli`: the command `qt-ros` from a plain checkout."""

from qt_ros.cli.main import main

raise SystemExit(main())
