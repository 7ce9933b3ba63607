import pathlib
import sys

# The helper that the tests of models and encoders share lies beside those of models.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "models"))
