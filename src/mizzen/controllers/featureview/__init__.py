"""FeatureView: versions by content address, brought online in increments, and taken away when nobody reads them."""
