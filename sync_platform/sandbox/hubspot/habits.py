"""HubSpot's bad habits with their figures, all on unless nothing first-hand was found for them."""

from __future__ import annotations

from typing import Final

from sync_platform.sandbox.kit import HabitSpec

_USAGE: Final = "https://developers.hubspot.com/docs/developer-tooling/platform/usage-guidelines"
_SEARCH: Final = "https://developers.hubspot.com/docs/api-reference/latest/crm/search-the-crm"
_TRACE: Final = "measured in a recorded trace of the live API (companies, 266 exchanges, 2022)"
_OBJECTS: Final = "https://developers.hubspot.com/docs/api-reference/latest/crm/objects/objects/guide"
_WEBHOOKS: Final = "https://developers.hubspot.com/docs/api-reference/legacy/webhooks/guide"
_MERGES: Final = "https://developers.hubspot.com/changelog/updated-merge-functionality-for-contacts-and-companies"
_ERRORS: Final = "https://developers.hubspot.com/docs/api-reference/latest/error-handling"
_CONTACTS: Final = "https://developers.hubspot.com/docs/api-reference/latest/crm/objects/contacts/guide"

HABITS: Final = (
    HabitSpec("private_app_limit", 190, f"{_USAGE}: requests per 10 seconds, Professional and Enterprise"),
    HabitSpec("oauth_app_limit", 110, f"{_USAGE}: requests per 10 seconds and account"),
    HabitSpec("daily_limit", 650_000, f"{_USAGE}: private apps per day, Professional"),
    HabitSpec("search_limit", 5, f"{_SEARCH}: search requests per second and account; the answer names no policy"),
    HabitSpec("search_total_cap", 10_000, f"{_SEARCH}: paging past it is refused"),
    HabitSpec("search_filter_groups", 5, f"{_SEARCH}: groups per search (the OpenAPI schema says 6)"),
    HabitSpec("search_body_limit", 3000, f"{_SEARCH}: characters of a search body"),
    HabitSpec(
        "index_lag", [0.5, 3.0],
        f"{_TRACE}: seconds until a write shows in search, per record, neither atomic per batch nor in order; "
        "filters see the index, returned values are live, `total` still counts archived rows",
    ),
    HabitSpec(
        "own_write_moves_again", [0.7, 4.8],
        f"{_TRACE}: the modified stamp of 108 of 108 created records moved again this many seconds after the answer",
    ),
    HabitSpec("shuffled_batch_results", True, f"{_TRACE}: 3 of 4 batches came back in another order than sent"),
    HabitSpec("company_domain_fills_website", True, f"{_TRACE}: a company created with a domain has it as website"),
    HabitSpec("token_life", 1800, "https://developers.hubspot.com/docs/api-reference/latest/authentication/oauth-quickstart"),
    HabitSpec(
        "lifecycle_only_forward",
        True,
        f"{_CONTACTS}: a stage moves forward only, unless cleared first; the write is answered as done "
        "(https://integrate.hubspot.com/t/update-lifecycle-stage-using-api/1333)",
    ),
    HabitSpec("batch_update_wants_ids", True, f"{_CONTACTS}: a batch update takes record ids, not e-mails"),
    HabitSpec("required_on_create", True, f"{_OBJECTS}: properties companies, deals and tickets need"),
    HabitSpec("merge_makes_new_id", True, f"{_CONTACTS}: outside a beta, a merge generates a new record id"),
    HabitSpec("merged_id_answers", True, f"{_MERGES}: reading by an original id returns the merged record"),
    HabitSpec("merged_id_answers_batches", True, f"{_MERGES}: any records; UNVERIFIED that batch/read is meant too"),
    HabitSpec(
        "merge_keeps_furthest_stage",
        True,
        "https://knowledge.hubspot.com/articles/kcs_article/contacts/how-do-i-merge-contacts: the stage furthest down "
        "the funnel; every other value is the primary's where it has one",
    ),
    HabitSpec("webhook_batch", 100, f"{_WEBHOOKS}: up to so many events a request"),
    HabitSpec("webhook_concurrency", 10, f"{_WEBHOOKS}: requests in flight per account that installed the app"),
    HabitSpec("webhook_timeout", 5, f"{_ERRORS}: seconds the receiver has; 4xx and 5xx fail too"),
    HabitSpec(
        "webhook_retry_minutes", [1, 3, 9, 20, 45, 90, 150, 240, 360, 480],
        f"{_ERRORS}: up to 10 more attempts over 24 hours, varying delays, some randomness; the figures are ours",
    ),
    HabitSpec(
        "webhook_event_ids_repeat", 0.01,
        f"{_WEBHOOKS}: eventId is not guaranteed to be unique; the share is ours",
    ),
    HabitSpec(
        "results_without_trace_ids",
        True,
        f"{_OBJECTS}: the example of a multi-status answer shows results without objectWriteTraceId; UNVERIFIED, "
        "the schema has it",
        on=False,
    ),
    HabitSpec("refresh_token_rotates", True, "UNVERIFIED: no evidence that the vendor does", on=False),
    HabitSpec("lead_is_default_stage", True, "UNVERIFIED: an account setting gives new contacts a stage", on=False),
    HabitSpec("email_upsert_all_or_nothing", True,
              f"{_CONTACTS}: no partial upserts by email; UNVERIFIED what partial means", on=False),
)  # fmt: skip
