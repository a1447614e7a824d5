"""How many workers an endpoint should have: the judgement, without I/O, clock or randomness.

    reports ──► Meter ──► Load over the stable and panic windows ──┐
                                                                   ▼
    targets: how many workers does that load ask for?   reactive: panic, ratchet, rate limits   (Knative's rule)
                                                                   ▼
    forecast: the same targets, for the load when a worker asked for now would be ready
                                                                   ▼
    hysteresis, scale-down delay, keep-alive and zero, schedules, bounds   ──► Decision, with its rule and its reason

`autoscaler` puts them together for one endpoint: it keeps what was seen and learned, and asks each rule in order.
`kpa` and `fixed` are the baselines, with the same face, so that the live controller and the simulator can run any.

    meter       sums by second, and averages over windows
    targets     the load of one worker that is aimed at; how many workers a load asks for
    erlang      how many workers keep the wait short: M/M/c
    reactive    Knative's stable and panic windows over any target; `kpa` is the same with Knative's own target
    forecast    the load to come: the last value, its trend, or the time of day, whichever was right lately
    keepalive   how long an idle worker stays: the hybrid histogram of the endpoint's own idle times
    schedules   bounds by local time
    readiness   how long a worker takes to be ready, as measured
    settings    a spec with its profile's presets filled in

Times: `now` is monotonic seconds and used for every duration; `wall_s` is seconds since 1970 and used only for the time
of day. A wall clock that jumps moves schedules and the season of the forecast, and nothing else.
"""
