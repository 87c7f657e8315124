"""`python -m yolox_deploy COMMAND` is `yolox-deploy COMMAND`."""

import sys

from .console import main

sys.exit(main())
