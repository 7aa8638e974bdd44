"""`xecg view` as a Hugging Face Space: a Docker Space whose README says `sdk: docker`."""

import xecg
from xecg.view import serve

serve(xecg.load("xecgarch"), {}, None, host="0.0.0.0", port=7860, show=False)
