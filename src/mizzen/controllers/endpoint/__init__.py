"""InferenceEndpoint: worker processes of one model version, replaced only by one that is loaded and warm."""
