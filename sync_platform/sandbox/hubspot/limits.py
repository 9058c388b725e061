"""Rate limits on the sandbox clock.

https://developers.hubspot.com/docs/developer-tooling/platform/usage-guidelines. Search has a limit of its own, per
account, and its answers carry no rate headers; a recorded refusal of a search named no policy and no Retry-After.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from sync_platform.sandbox.hubspot.refusals import RefusedError
from sync_platform.sandbox.hubspot.tokens import Token
from sync_platform.sandbox.kit import Habit

WINDOW_MS = 10_000
DAY_MS = 86_400_000


class Limits:
    """Counts requests per app, and searches per account."""

    def __init__(self, habits: Mapping[str, Habit]) -> None:
        self._habits = habits
        self.reset()

    def reset(self) -> None:
        """Forgets every request."""
        self._recent: dict[str, deque[int]] = {}
        self._searches: deque[int] = deque()
        self._day = -1
        self._today = 0

    def admit(self, token: Token, *, search: bool, now: int) -> tuple[dict[str, str], RefusedError | None]:
        """Counts a request: the rate headers of its answer, and the refusal (429) if it is one too many."""
        daily = self._habits["daily_limit"]
        if self._day != now // DAY_MS:
            self._day, self._today = now // DAY_MS, 0
        if token.private:
            self._today += 1
        left_today = max(0, daily.value - self._today)
        headers = {}
        if token.private and daily.on:
            headers = {
                "X-HubSpot-RateLimit-Daily": str(daily.value),
                "X-HubSpot-RateLimit-Daily-Remaining": str(left_today),
            }
            if self._today > daily.value:
                return headers, _refusal("daily", "DAILY")
        if search:
            refused = self._search(now)
            return (headers if refused else {}), refused
        return self._burst(token, headers, now)

    def _search(self, now: int) -> RefusedError | None:
        limit = self._habits["search_limit"]
        while self._searches and self._searches[0] <= now - 1000:
            self._searches.popleft()
        if limit.on and len(self._searches) >= limit.value:
            return _refusal("secondly", None)
        self._searches.append(now)
        return None

    def _burst(self, token: Token, headers: dict[str, str], now: int) -> tuple[dict[str, str], RefusedError | None]:
        limit = self._habits["private_app_limit" if token.private else "oauth_app_limit"]
        if not limit.on:
            return headers, None
        # An OAuth app keeps its count when it renews its token.
        recent = self._recent.setdefault(token.text if token.private else "oauth", deque())
        while recent and recent[0] <= now - WINDOW_MS:
            recent.popleft()
        refused = len(recent) >= limit.value
        if not refused:
            recent.append(now)
        secondly = max(1, limit.value // 10)
        last_second = sum(1 for at in recent if at > now - 1000)
        headers |= {
            "X-HubSpot-RateLimit-Max": str(limit.value),
            "X-HubSpot-RateLimit-Remaining": str(limit.value - len(recent)),
            "X-HubSpot-RateLimit-Interval-Milliseconds": str(WINDOW_MS),
            "X-HubSpot-RateLimit-Secondly": str(secondly),
            "X-HubSpot-RateLimit-Secondly-Remaining": str(max(0, secondly - last_second)),
        }
        return headers, _refusal("ten_secondly_rolling", "TEN_SECONDLY_ROLLING") if refused else None


def _refusal(which: str, policy: str | None) -> RefusedError:
    extra = {"errorType": "RATE_LIMIT", "policyName": policy} if policy else {}
    return RefusedError(
        429, f"You have reached your {which} limit.", category="RATE_LIMITS", extra=extra, violation=False
    )
