"""Tables with versions, objects and code bundles by digest."""
