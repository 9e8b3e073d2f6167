"""A Livepeer Studio task API on loopback, with a data generator: the demo and the tests run on it.

    server     the sockets: reads requests, sends responses, keeps connections alive
    wire       responses as bytes: headers, ETags
    api        routes, API keys, ETags: a request in, a response out
    errors     the recorded error answers
    listing    what `GET /api/task` means: limits, orders, filters, cursors, the Link header
    store      the rows, their former versions, their cached sort orders
    world      moves tasks on as the clock does
    generator  when tasks are created and the states each of them goes through
    payloads   what the tasks contain
    faults     what can go wrong between a client and the server
    simulator  all of it behind one object, with the handles that tests pull

How the real server behaves was recorded; tests/simulator/test_recordings.py replays the recordings.
"""

from pipelines.simulator.simulator import Simulator

__all__ = ["Simulator"]
