"""``python -m fastnn`` is the command ``fastnn``."""

import sys

from .cli.main import main

sys.exit(main())
