"""API usage: the rolling day's requests, the gauge in every answer, the concurrent ones, GET limits."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from sync_platform.sandbox.salesforce.refusals import SalesforceError

if TYPE_CHECKING:
    from sync_platform.sandbox.salesforce.simulator import SalesforceSimulator

_DAY_MS: Final = 86_400_000
_LONG_MS: Final = 20_000


class Usage:
    """What the organization has used in the last 24 hours of the sandbox clock."""

    def __init__(self, org: SalesforceSimulator) -> None:
        self._org = org
        self._requests: deque[int] = deque()
        self.query_jobs: deque[int] = deque()

    def clear(self) -> None:
        """Nothing used."""
        self._requests.clear()
        self.query_jobs.clear()

    def count(self) -> None:
        """Counts a request. Raises REQUEST_LIMIT_EXCEEDED when the day's or the moment's limit is reached."""
        org, now = self._org, self._org.world.now_ms()
        while self._requests and self._requests[0] <= now - _DAY_MS:
            self._requests.popleft()
        if org.on("daily_requests") and len(self._requests) >= org.value("daily_requests"):
            raise SalesforceError(403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.")
        if org.on("concurrent_long_requests"):
            started = org.world.log.in_flight(org.system).values()
            long = sum(1 for moment in started if now - moment >= _LONG_MS)
            if long >= org.value("concurrent_long_requests"):
                message = "ConcurrentRequests (Concurrent API Requests) Limit exceeded."
                raise SalesforceError(403, "REQUEST_LIMIT_EXCEEDED", message)
        self._requests.append(now)

    def count_query_job(self) -> None:
        """Counts a Bulk query job. Raises when the day's are used up."""
        org, now = self._org, self._org.world.now_ms()
        while self.query_jobs and self.query_jobs[0] <= now - _DAY_MS:
            self.query_jobs.popleft()
        if org.on("bulk_query_jobs") and len(self.query_jobs) >= org.value("bulk_query_jobs"):
            message = "DailyBulkV2QueryJobs Limit exceeded."
            raise SalesforceError(400, "EXCEEDEDQUOTA", message)
        self.query_jobs.append(now)

    def gauge(self) -> str:
        """The value of Sforce-Limit-Info; it wobbles, so it is no counter."""
        org, used = self._org, len(self._requests)
        if org.on("usage_gauge_wobble"):
            used = max(1, used - org.rng.randint(0, int(org.value("usage_gauge_wobble"))))
        return f"api-usage={used}/{org.value('daily_requests')}"

    def limits(self) -> dict[str, Any]:
        """GET limits."""
        org = self._org

        def one(most: int, used: int = 0) -> dict[str, int]:
            return {"Max": most, "Remaining": max(0, most - used)}

        return {
            "DailyApiRequests": one(org.value("daily_requests"), len(self._requests)),
            "DailyBulkApiBatches": one(15_000),
            "DailyBulkV2QueryJobs": one(org.value("bulk_query_jobs"), len(self.query_jobs)),
            "DailyBulkV2QueryFileStorageMB": one(976_562),
            "DataStorageMB": one(10_240),
            "FileStorageMB": one(10_240),
            "DailyStreamingApiEvents": one(10_000),
            "HourlyODataCallout": one(20_000),
            "SingleEmail": one(5_000),
        }
