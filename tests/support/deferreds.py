"""What a Deferred that has fired came to, asked for without waiting."""

from twisted.python.failure import Failure


def outcome(deferred):
    results = []
    deferred.addBoth(results.append)
    return results


def failure_of(deferred):
    (failure,) = outcome(deferred)
    return failure.value


def result_of(deferred):
    (result,) = outcome(deferred)
    assert not isinstance(result, Failure)
    return result
