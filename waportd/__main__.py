"""``python3 -m waportd`` runs the daemon."""

import sys

from waportd.daemon import main

sys.exit(main())
