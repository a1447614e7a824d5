"""What can go wrong with features.

    FeatureError
     |- DefinitionError      a view's definition cannot mean anything: the user's to mend, permanent
     |- RowsUnfit            rows do not fit the definition (key types, missing event times): the user's to mend
     |- SourceDamaged        a stored file of the source cannot be read: to be restored, or its dataset loaded again
     |- RequestUnfit         what is asked for does not fit the view (key types, unknown features): the caller's
     `- StoreUnavailable     the online store does not answer or is full: try again later

Every message is one line: what was expected, what was found, and what to do where that is known.
"""


class FeatureError(Exception):
    """Root of what this package raises."""


class DefinitionError(FeatureError):
    """A view's definition cannot mean anything."""


class RowsUnfit(FeatureError):
    """Rows do not fit the definition."""


class SourceDamaged(FeatureError):
    """A stored file of the source cannot be read."""


class RequestUnfit(FeatureError):
    """What is asked for does not fit the view."""


class StoreUnavailable(FeatureError):
    """The online store does not answer or is full."""
