"""The vendor's habits and figures, each with where it is written down.

Those that are off are settings of an organization or have no published figure.
"""

from __future__ import annotations

from typing import Final

from sync_platform.sandbox.kit import HabitSpec

_REST = "https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/"
_SOQL = "https://developer.salesforce.com/docs/atlas.en-us.soql_sosl.meta/soql_sosl/"
_LIMITS = (
    "https://developer.salesforce.com/docs/atlas.en-us.salesforce_app_limits_cheatsheet.meta/"
    "salesforce_app_limits_cheatsheet/"
)
_BULK = "https://developer.salesforce.com/docs/atlas.en-us.api_asynch.meta/api_asynch/"
_HELP = "https://help.salesforce.com/s/articleView?id="
_OUTBOUND = "https://developer.salesforce.com/docs/atlas.en-us.api.meta/api/sforce_api_om_outboundmessaging_"
_MERGE = "https://developer.salesforce.com/docs/atlas.en-us.api.meta/api/sforce_api_calls_merge.htm"
_AIRBYTE = "https://github.com/airbytehq/airbyte (source-salesforce: look-back of 600 seconds)"

HABITS: Final = (
    HabitSpec("token_life", 7200, _HELP + "sf.admin_sessions.htm (session timeout of inactivity, 2 hours, in seconds)"),
    HabitSpec("refresh_rotation", True, _HELP + "sf.remoteaccess_oauth_refresh_token_flow.htm (app setting)", on=False),
    HabitSpec("daily_requests", 100_000, _LIMITS + "salesforce_app_limits_platform_api.htm (Enterprise, per 24 hours)"),
    HabitSpec(
        "concurrent_long_requests", 25, _LIMITS + "salesforce_app_limits_platform_api.htm (of 20 seconds or more)"
    ),
    HabitSpec(
        "usage_gauge_wobble", 36, _REST + "headers_api_usage.htm (recorded 2021: 8408, 8402, 8398, 8432 in 10 s)"
    ),
    HabitSpec("late_commits", 600, _AIRBYTE + ": rows appear at commit, stamped up to so many seconds earlier"),
    HabitSpec("whole_second_stamps", True, _REST + "dome_sobject_basic_info.htm (every stamp shown ends in .000)"),
    HabitSpec(
        "bulk_load_ties", 200, _BULK + "bulk_api_2_0.htm (records of one load share SystemModstamp, runs of 200)"
    ),
    HabitSpec("tie_order", True, _SOQL + "sforce_api_calls_soql_select_orderby.htm (no order without ORDER BY)"),
    HabitSpec("user_time_zone", "America/Los_Angeles", _SOQL + "sforce_api_calls_soql_select_dateformats.htm"),
    HabitSpec("query_page_rows", 2000, _REST + "headers_queryoptions.htm (200 to 2,000)"),
    HabitSpec("query_cursor_life", 172_800, _REST + "resources_query.htm (a query locator lives up to two days)"),
    HabitSpec("query_cursors", 10, _HELP + "000323582 (open query cursors per user; lifted since 2024)", on=False),
    HabitSpec("recycle_bin_days", 15, _HELP + "sf.home_delete.htm"),
    HabitSpec("deleted_feed_days", 15, _REST + "resources_getdeleted.htm"),
    HabitSpec("updated_feed_days", 30, _REST + "resources_getupdated.htm"),
    HabitSpec("bulk_job_seconds", 30, _BULK + "query_get_job_results.htm (asynchronous; or done at the second poll)"),
    HabitSpec("bulk_result_rows", 100_000, _BULK + "query_get_job_results.htm (rows a page without maxRecords)"),
    HabitSpec("bulk_query_jobs", 10_000, _LIMITS + "salesforce_app_limits_platform_bulkapi.htm (per 24 hours)"),
    HabitSpec("collection_size", 200, _REST + "resources_composite_sobjects_collections.htm"),
    HabitSpec("uri_bytes", 16_384, _REST + "errorcodes.htm (414)"),
    HabitSpec("outbound_batch", 100, _OUTBOUND + "notifications.htm (notifications a message)"),
    HabitSpec("outbound_timeout", 60, _HELP + "platform.workflow_om_considerations.htm (seconds)"),
    HabitSpec(
        "outbound_retry_seconds",
        [30, 7200],
        _OUTBOUND + "notifications.htm (doubling up to two hours; the first wait is ours)",
    ),
    HabitSpec("outbound_life", 86_400, _OUTBOUND + "notifications.htm (dropped after 24 hours)"),
    HabitSpec("outbound_connections", 10, _OUTBOUND + "notifications.htm (at once; no figure is published)"),
    HabitSpec(
        "outbound_nulls_left_out",
        True,
        _OUTBOUND + "wsdl.htm (recorded messages: a null has no element)",
    ),
    HabitSpec(
        "outbound_for_integration_user",
        True,
        _OUTBOUND + "setting_up.htm (off: its profile may not send outbound messages)",
    ),
    HabitSpec("merge_records", 3, _MERGE + " (records of one merge, the survivor among them)"),
    HabitSpec(
        "merge_keeps_oldest_created",
        True,
        _HELP + "sales.leads_considerations_for_merging_duplicates.htm (Created Date of the oldest record)",
    ),
    HabitSpec(
        "merge_page_fills_blanks",
        True,
        _MERGE + " (UNVERIFIED: the page preselects a value where the survivor has none)",
    ),
    HabitSpec(
        "merge_moves_children", True, _MERGE + " (children are reparented; UNVERIFIED: their SystemModstamp moves)"
    ),
    HabitSpec("duplicate_rule", True, _HELP + "sf.duplicate_rules_map_of_reference.htm (same e-mail)", on=False),
    HabitSpec("row_locks", 0.02, _HELP + "000385564 (share of writes refused; no figure is published)", on=False),
    HabitSpec("hidden_fields", [], _HELP + "sf.admin_fls.htm (e.g. Lead.Phone)", on=False),
)
