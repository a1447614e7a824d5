"""The prediction log: every request and its answer as rows of a Delta table, typed by the model's signature.

    gateway process ── recorder ──> ring ──> spool ── table ──> predictions/NAMESPACE/ENDPOINT in the store
                                     │        │  └─ events ──> a sink of CloudEvents
                                 mapped file  └ segments on disk: the writer process, which may be away, slow or killed

    record      what the gateway notes of requests, in the form in which it travels
    recorder    notes and samples, in the gateway: the only part on the path of a request
    ring        a bounded ring in a mapped file: written by one gateway process, read by the writer
    layout      which file is where
    spool       segments on disk: what was taken from the rings and is not in the lake yet
    columns     records to typed columns
    table       the Delta table: appends that count once, columns that come with new signatures
    events      CloudEvents, as KServe's logger sends them
    journal     one endpoint's way from its rings to its table
    writer      the process: all endpoints' journals, what is said of them to the API server and to the gateway
    labels      what turned out to be true, joined by request id

**What is promised.** A request never waits for the log: what finds its ring full is not logged, and counted. What is
in a ring is in the table exactly once, whoever is killed in between: a ring outlives its gateway, a segment its
writer, and a commit carries the number of the segment it holds (a Delta transaction). The counter of what was lost is
in the ring too, so it is exact. A record is in the ring before its answer leaves the process.

A table that is slow or away fills the spool, a full spool the ring, a full ring the counter; one endpoint's table
costs no other endpoint a record.
"""
