"""The vendor's own properties of contacts, companies, deals, tickets and line items.

A choice of those every account has: enough of each type to meet every rule. The property guides of each object:
https://developers.hubspot.com/docs/api-reference/latest/crm/objects/contacts/guide (and companies, deals, tickets,
line-items). A table row is `name|label|type|fieldType|flags`; flags: r read-only, c calculated, h hidden, u unique.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sync_platform.sandbox.hubspot.properties import Option, Property, options

#: https://knowledge.hubspot.com/records/use-lifecycle-stages: the eight default stages, in order.
LIFECYCLE: Final = options(
    "subscriber=Subscriber",
    "lead=Lead",
    "marketingqualifiedlead=Marketing Qualified Lead",
    "salesqualifiedlead=Sales Qualified Lead",
    "opportunity=Opportunity",
    "customer=Customer",
    "evangelist=Evangelist",
    "other=Other",
)
LEAD_STATUS: Final = options(
    "NEW=New",
    "OPEN=Open",
    "IN_PROGRESS=In Progress",
    "OPEN_DEAL=Open Deal",
    "UNQUALIFIED=Unqualified",
    "ATTEMPTED_TO_CONTACT=Attempted to Contact",
    "CONNECTED=Connected",
    "BAD_TIMING=Bad Timing",
)
INDUSTRIES: Final = options(
    "ACCOUNTING=Accounting",
    "AUTOMOTIVE=Automotive",
    "BANKING=Banking",
    "BIOTECHNOLOGY=Biotechnology",
    "COMPUTER_SOFTWARE=Computer Software",
    "CONSTRUCTION=Construction",
    "CONSUMER_GOODS=Consumer Goods",
    "EDUCATION_MANAGEMENT=Education Management",
    "FINANCIAL_SERVICES=Financial Services",
    "FOOD_BEVERAGES=Food & Beverages",
    "HOSPITAL_HEALTH_CARE=Hospital & Health Care",
    "INFORMATION_TECHNOLOGY_AND_SERVICES=Information Technology and Services",
    "INSURANCE=Insurance",
    "LOGISTICS_AND_SUPPLY_CHAIN=Logistics and Supply Chain",
    "MACHINERY=Machinery",
    "MANAGEMENT_CONSULTING=Management Consulting",
    "MARKETING_AND_ADVERTISING=Marketing and Advertising",
    "OIL_ENERGY=Oil & Energy",
    "REAL_ESTATE=Real Estate",
    "RETAIL=Retail",
    "TELECOMMUNICATIONS=Telecommunications",
    "TEXTILES=Textiles",
)
STAGES: Final = options(
    "appointmentscheduled=Appointment Scheduled",
    "qualifiedtobuy=Qualified To Buy",
    "presentationscheduled=Presentation Scheduled",
    "decisionmakerboughtin=Decision Maker Bought-In",
    "contractsent=Contract Sent",
    "closedwon=Closed Won",
    "closedlost=Closed Lost",
)
YES_NO: Final = options("true=Yes", "false=No")
OPTIONS: Final[Mapping[str, tuple[Option, ...]]] = {
    "lifecyclestage": LIFECYCLE,
    "hs_lead_status": LEAD_STATUS,
    "industry": INDUSTRIES,
    "type": options("PROSPECT=Prospect", "PARTNER=Partner", "RESELLER=Reseller", "VENDOR=Vendor", "OTHER=Other"),
    "hs_persona": options("persona_1=Persona 1", "persona_2=Persona 2"),
    "hs_buying_role": options(
        "BLOCKER=Blocker", "BUDGET_HOLDER=Budget Holder", "CHAMPION=Champion", "DECISION_MAKER=Decision Maker",
        "END_USER=End User", "INFLUENCER=Influencer", "OTHER=Other",
    ),
    "hs_object_source": options("INTEGRATION=Integration", "CRM_UI=CRM UI", "IMPORT=Import"),
    "pipeline": options("default=Sales Pipeline"),
    "dealstage": STAGES,
    "dealtype": options("newbusiness=New Business", "existingbusiness=Existing Business"),
    "hs_priority": options("low=Low", "medium=Medium", "high=High"),
    "hs_pipeline": options("0=Support Pipeline"),
    "hs_pipeline_stage": options("1=New", "2=Waiting on contact", "3=Waiting on us", "4=Closed"),
    "hs_ticket_priority": options("LOW=Low", "MEDIUM=Medium", "HIGH=High", "URGENT=Urgent"),
    "hs_ticket_category": options(
        "PRODUCT_ISSUE=Product issue", "BILLING_ISSUE=Billing issue", "FEATURE_REQUEST=Feature request",
        "GENERAL_INQUIRY=General inquiry",
    ),
    "source_type": options("CHAT=Chat", "EMAIL=Email", "FORM=Form", "PHONE=Phone"),
}  # fmt: skip

SYSTEM: Final = """
hs_object_id|Record ID|number|number|ru
createdate|Create Date|datetime|date|r
hs_createdate|Object create date/time|datetime|date|rh
hs_object_source|Record source|enumeration|select|rh
hs_object_source_label|Record source label|string|text|r
hs_merged_object_ids|Merged record IDs|string|text|r
hubspot_owner_id|Owner|string|text|
"""
ADDRESS: Final = """
phone|Phone Number|string|phonenumber|
address|Street Address|string|text|
city|City|string|text|
state|State/Region|string|text|
zip|Postal Code|string|text|
country|Country/Region|string|text|
website|Website URL|string|text|
lifecyclestage|Lifecycle Stage|enumeration|radio|
hs_lead_status|Lead Status|enumeration|radio|
"""
CONTACTS: Final = f"""
firstname|First Name|string|text|
lastname|Last Name|string|text|
email|Email|string|text|u
hs_additional_emails|Additional email addresses|string|text|r
hs_email_domain|Email Domain|string|text|r
hs_calculated_merged_vids|Merged vids with timestamps of a contact|string|text|r
lastmodifieddate|Last Modified Date|datetime|date|r
company|Company Name|string|text|
jobtitle|Job Title|string|text|
mobilephone|Mobile Phone Number|string|phonenumber|
fax|Fax Number|string|text|
salutation|Salutation|string|text|
industry|Industry|string|text|
annualrevenue|Annual Revenue|string|text|
numemployees|Number of Employees|string|text|
message|Message|string|textarea|
date_of_birth|Date of birth|string|text|
closedate|Close Date|datetime|date|
hs_persona|Persona|enumeration|select|
hs_buying_role|Buying Role|enumeration|checkbox|
hs_language|Preferred language|string|text|
hs_email_optout|Unsubscribed from all email|bool|booleancheckbox|
hs_is_contact|Is a contact|bool|booleancheckbox|rh
hs_is_unworked|Contact unworked|bool|booleancheckbox|c
num_associated_deals|Number of Associated Deals|number|number|c
hubspotscore|HubSpot Score|number|number|c
associatedcompanyid|Primary Associated Company ID|number|number|
{ADDRESS}{SYSTEM}
"""
COMPANIES: Final = f"""
name|Company name|string|text|
domain|Company Domain Name|string|text|
hs_additional_domains|Additional Domains|string|text|r
hs_lastmodifieddate|Last Modified Date|datetime|date|r
description|Description|string|textarea|
industry|Industry|enumeration|select|
type|Type|enumeration|select|
numberofemployees|Number of Employees|number|number|
annualrevenue|Annual Revenue|number|number|
founded_year|Year Founded|string|text|
is_public|Is Public|bool|booleancheckbox|
timezone|Time Zone|string|text|
linkedin_company_page|LinkedIn Company Page|string|text|
num_associated_contacts|Number of Associated Contacts|number|number|c
closedate|Close Date|datetime|date|
{ADDRESS}{SYSTEM}
"""
DEALS: Final = f"""
dealname|Deal Name|string|text|
amount|Amount|number|number|
closedate|Close Date|datetime|date|
pipeline|Pipeline|enumeration|select|
dealstage|Deal Stage|enumeration|radio|
dealtype|Deal Type|enumeration|radio|
description|Deal Description|string|textarea|
hs_priority|Priority|enumeration|select|
hs_next_step|Next step|string|textarea|
deal_currency_code|Currency|string|text|
hs_lastmodifieddate|Last Modified Date|datetime|date|r
amount_in_home_currency|Amount in company currency|number|number|c
hs_is_closed|Is deal closed?|bool|booleancheckbox|c
{SYSTEM}
"""
TICKETS: Final = f"""
subject|Ticket name|string|text|
content|Ticket description|string|textarea|
hs_pipeline|Pipeline|enumeration|select|
hs_pipeline_stage|Ticket status|enumeration|select|
hs_ticket_priority|Priority|enumeration|select|
hs_ticket_category|Category|enumeration|checkbox|
source_type|Source|enumeration|select|
closed_date|Close date|datetime|date|
hs_lastmodifieddate|Last modified date|datetime|date|r
{SYSTEM}
"""
LINE_ITEMS: Final = f"""
name|Name|string|text|
description|Description|string|textarea|
quantity|Quantity|number|number|
price|Unit price|number|number|
discount|Unit discount|number|number|
amount|Net price|number|number|c
hs_sku|SKU|string|text|
hs_product_id|Product ID|number|number|
hs_recurring_billing_start_date|Billing start date|date|date|
hs_lastmodifieddate|Last modified date|datetime|date|r
{SYSTEM}
"""


def parse(table: str, group: str) -> tuple[Property, ...]:
    """The properties of a table as above, in order of their names."""
    found: dict[str, Property] = {}
    for line in filter(None, (line.strip() for line in table.splitlines())):
        name, label, kind, field_type, flags = line.split("|")
        found[name] = Property(
            name=name,
            label=label,
            type=kind,
            field_type=field_type,
            group=group,
            options=YES_NO if kind == "bool" else OPTIONS[name] if kind == "enumeration" else (),
            read_only="r" in flags,
            calculated="c" in flags,
            hidden="h" in flags,
            unique="u" in flags,
            form_field=kind != "datetime" and "r" not in flags,
        )
    return tuple(found[name] for name in sorted(found))
