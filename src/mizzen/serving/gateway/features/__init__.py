"""Features in the gateway: requests carry keys, and the vectors behind them are read on their way to the model.

source     which endpoints look what up, opened when the first of them comes; imports nothing large
opening    views and their readers, in the online store; here PyArrow and DuckDB come in
columns    what a request must carry, and where each column of the model comes from
lookup     one read of all views for all rows; what is missing, stale or not to be had
stage      the station of an exchange between decoding and the cache
server     the same vectors without a model: the feature server's routes
"""
