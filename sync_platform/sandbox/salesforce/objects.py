"""The sObjects of the simulated organization: standard ones as a plain org has them, and some `__c` fields.

Names, types, lengths and picklist values: Object Reference for the Salesforce Platform.
"""

from __future__ import annotations

from typing import Any, Final

from sync_platform.sandbox.salesforce.metadata import FieldDef, ObjectDef

F = FieldDef
LEAD_STATUSES: Final = ("Open - Not Contacted", "Working - Contacted", "Closed - Converted", "Closed - Not Converted")
LEAD_SOURCES: Final = ("Web", "Phone Inquiry", "Partner Referral", "Purchased List", "Other")
INDUSTRIES: Final = (
    "Agriculture", "Banking", "Biotechnology", "Construction", "Education", "Energy", "Finance", "Healthcare",
    "Hospitality", "Insurance", "Manufacturing", "Media", "Retail", "Technology",
)  # fmt: skip
RATINGS: Final = ("Hot", "Warm", "Cold")
STAGES: Final = ("Prospecting", "Qualification", "Needs Analysis", "Proposal/Price Quote", "Negotiation/Review",
                 "Closed Won", "Closed Lost")  # fmt: skip
SALUTATIONS: Final = ("Mr.", "Ms.", "Mrs.", "Dr.", "Prof.", "Mx.")
REGIONS: Final = ("EMEA", "AMER", "APAC")
TAGS: Final = ("newsletter", "webinar", "trial", "partner")


def _readonly(name: str, label: str, type: str, **more: Any) -> FieldDef:
    return F(name=name, label=label, type=type, createable=False, updateable=False, **more)


def _reference(name: str, label: str, to: str, relationship: str, **more: Any) -> FieldDef:
    return F(name=name, label=label, type="reference", length=18, reference_to=(to,), relationship=relationship, **more)


def _system(owner: bool = True) -> tuple[FieldDef, ...]:
    """The fields every object has."""
    who = {"nillable": False, "createable": False, "updateable": False, "defaulted": True}
    fields = (
        _readonly("Id", "Record ID", "id", length=18, nillable=False, id_lookup=True, defaulted=True),
        _readonly("IsDeleted", "Deleted", "boolean", nillable=False, defaulted=True),
        _readonly("CreatedDate", "Created Date", "datetime", nillable=False, defaulted=True, groupable=False),
        _reference("CreatedById", "Created By ID", "User", "CreatedBy", **who),
        _readonly(
            "LastModifiedDate", "Last Modified Date", "datetime", nillable=False, defaulted=True, groupable=False
        ),
        _reference("LastModifiedById", "Last Modified By ID", "User", "LastModifiedBy", **who),
        _readonly("SystemModstamp", "System Modstamp", "datetime", nillable=False, defaulted=True, groupable=False),
    )
    own = _reference("OwnerId", "Owner ID", "User", "Owner", nillable=False, defaulted=True)
    return (*fields, own) if owner else fields


def _text(name: str, label: str, length: int, **more: Any) -> FieldDef:
    return F(name=name, label=label, length=length, **more)


def _pick(name: str, label: str, values: tuple[str, ...], **more: Any) -> FieldDef:
    return F(name=name, label=label, type="picklist", length=255, values=values, **more)


def _person(last_required: bool = True) -> tuple[FieldDef, ...]:
    return (
        _text("LastName", "Last Name", 80, nillable=not last_required, compound="Name"),
        _text("FirstName", "First Name", 40, compound="Name"),
        _pick("Salutation", "Salutation", SALUTATIONS, compound="Name"),
        _readonly("Name", "Full Name", "string", length=121, nillable=False, name_field=True),
    )


def _address(prefix: str, label: str) -> tuple[FieldDef, ...]:
    compound = f"{prefix}Address"
    part: dict[str, Any] = {"compound": compound}
    return (
        F(name=f"{prefix}Street", label=f"{label}Street", type="textarea", length=255, **part),
        _text(f"{prefix}City", f"{label}City", 40, **part),
        _text(f"{prefix}State", f"{label}State/Province", 80, **part),
        _text(f"{prefix}PostalCode", f"{label}Zip/Postal Code", 20, **part),
        _text(f"{prefix}Country", f"{label}Country", 80, **part),
        _readonly(compound, f"{label}Address", "address", groupable=False, sortable=False),
    )


def _long_text(name: str, label: str) -> FieldDef:
    return F(
        name=name, label=label, type="textarea", length=32000, filterable=False, sortable=False, groupable=False
    )  # fmt: skip


def _external() -> FieldDef:
    return _text("Ext__c", "External Key", 255, external_id=True, id_lookup=True, unique=True)


def _contact_points() -> tuple[FieldDef, ...]:
    return (
        F(name="Phone", label="Business Phone", type="phone", length=40),
        F(name="MobilePhone", label="Mobile Phone", type="phone", length=40),
        F(name="Email", label="Email", type="email", length=80, id_lookup=True),
    )


_MONEY: Final[dict[str, Any]] = {"precision": 18, "scale": 2, "groupable": False}
_LEAD = ObjectDef("Lead", "00Q", "Leads", (
    *_system(), *_person(),
    _text("Title", "Title", 128), _text("Company", "Company", 255, nillable=False), *_address("", ""),
    *_contact_points(),
    F(name="Website", label="Website", type="url", length=255), _long_text("Description", "Description"),
    _pick("LeadSource", "Lead Source", LEAD_SOURCES),
    _pick("Status", "Status", LEAD_STATUSES, nillable=False, defaulted=True, default_value="Open - Not Contacted"),
    _pick("Industry", "Industry", INDUSTRIES), _pick("Rating", "Rating", RATINGS),
    F(name="AnnualRevenue", label="Annual Revenue", type="currency", precision=18, groupable=False),
    F(name="NumberOfEmployees", label="No. of Employees", type="int"),
    _readonly("IsConverted", "Converted", "boolean", nillable=False, defaulted=True),
    _readonly("ConvertedDate", "Converted Date", "date"),
    _readonly("MasterRecordId", "Master Record ID", "reference", length=18, reference_to=("Lead",),
              relationship="MasterRecord"),
    F(name="HasOptedOutOfEmail", label="Email Opt Out", type="boolean", nillable=False),
    F(name="DoNotCall", label="Do Not Call", type="boolean", nillable=False),
    _readonly("LastActivityDate", "Last Activity", "date"),
    _external(),
    F(name="Score__c", label="Score", type="double", precision=18, scale=2, groupable=False),
    F(name="Next_Contact__c", label="Next Contact", type="datetime", groupable=False),
    F(name="Birthday__c", label="Birthday", type="date"),
    _pick("Region__c", "Region", REGIONS, restricted=True),
    F(name="Tags__c", label="Tags", type="multipicklist", length=4099, values=TAGS, groupable=False, sortable=False),
    _readonly("Is_Hot__c", "Is Hot", "boolean", nillable=False, calculated=True, formula="Score__c >= 80"),
))  # fmt: skip
_CONTACT = ObjectDef("Contact", "003", "Contacts", (
    *_system(), *_person(),
    _reference("AccountId", "Account ID", "Account", "Account"),
    _text("Title", "Title", 128), _text("Department", "Department", 80), *_contact_points(),
    F(name="Birthdate", label="Birthdate", type="date"), *_address("Mailing", "Mailing "),
    _long_text("Description", "Description"), _pick("LeadSource", "Lead Source", LEAD_SOURCES),
    F(name="HasOptedOutOfEmail", label="Email Opt Out", type="boolean", nillable=False),
    _readonly("MasterRecordId", "Master Record ID", "reference", length=18, reference_to=("Contact",),
              relationship="MasterRecord"),
    _readonly("LastActivityDate", "Last Activity", "date"),
    _external(), _pick("Region__c", "Region", REGIONS, restricted=True),
    _readonly("Account_Industry__c", "Account Industry", "string", length=1300, calculated=True,
              formula="TEXT(Account.Industry)", groupable=False),
))  # fmt: skip
_ACCOUNT = ObjectDef("Account", "001", "Accounts", (
    *_system(), _text("Name", "Account Name", 255, nillable=False, name_field=True),
    _pick("Type", "Account Type", ("Prospect", "Customer - Direct", "Customer - Channel", "Other")),
    F(name="Phone", label="Account Phone", type="phone", length=40),
    F(name="Website", label="Website", type="url", length=255), *_address("Billing", "Billing "),
    _pick("Industry", "Industry", INDUSTRIES), _pick("Rating", "Rating", RATINGS),
    F(name="AnnualRevenue", label="Annual Revenue", type="currency", precision=18, groupable=False),
    F(name="NumberOfEmployees", label="Employees", type="int"), _text("AccountNumber", "Account Number", 40),
    _long_text("Description", "Account Description"),
    _readonly("MasterRecordId", "Master Record ID", "reference", length=18, reference_to=("Account",),
              relationship="MasterRecord"),
    _external(),
))  # fmt: skip
_OPPORTUNITY = ObjectDef("Opportunity", "006", "Opportunities", (
    *_system(), _text("Name", "Name", 120, nillable=False, name_field=True),
    _reference("AccountId", "Account ID", "Account", "Account"), _long_text("Description", "Description"),
    _pick("StageName", "Stage", STAGES, nillable=False), F(name="Amount", label="Amount", type="currency", **_MONEY),
    F(name="CloseDate", label="Close Date", type="date", nillable=False),
    F(name="Probability", label="Probability (%)", type="percent", precision=3, groupable=False),
    _pick("LeadSource", "Lead Source", LEAD_SOURCES), _text("NextStep", "Next Step", 255),
    _readonly("IsClosed", "Closed", "boolean", nillable=False, calculated=True, formula="stage is closed"),
    _readonly("IsWon", "Won", "boolean", nillable=False, calculated=True, formula="stage is won"),
    _external(),
))  # fmt: skip
_USER = ObjectDef("User", "005", "Users", (
    *_system(owner=False), _text("Username", "Username", 80, nillable=False, id_lookup=True, unique=True), *_person(),
    F(name="Email", label="Email", type="email", length=128, nillable=False, id_lookup=True),
    _text("Alias", "Alias", 8, nillable=False),
    F(name="IsActive", label="Active", type="boolean", nillable=False, default_value=True),
    _text("TimeZoneSidKey", "Time Zone", 40, nillable=False, defaulted=True, default_value="America/Los_Angeles"),
    _text("Title", "Title", 80), _text("Department", "Department", 80),
))  # fmt: skip
_CAMPAIGN = ObjectDef("Campaign", "701", "Campaigns", (
    *_system(), _text("Name", "Name", 80, nillable=False, name_field=True),
    _pick("Type", "Type", ("Conference", "Webinar", "Email", "Advertisement", "Other")),
    _pick("Status", "Status", ("Planned", "In Progress", "Completed", "Aborted"), default_value="Planned"),
    F(name="StartDate", label="Start Date", type="date"), F(name="EndDate", label="End Date", type="date"),
    F(name="IsActive", label="Active", type="boolean", nillable=False),
    F(name="BudgetedCost", label="Budgeted Cost", type="currency", **_MONEY), _long_text("Description", "Description"),
    _external(),
))  # fmt: skip

OBJECTS: Final = {o.name: o for o in (_LEAD, _CONTACT, _ACCOUNT, _OPPORTUNITY, _USER, _CAMPAIGN)}
_BY_LOW: Final = {name.lower(): o for name, o in OBJECTS.items()}
PREFIXES: Final = {o.prefix: o for o in OBJECTS.values()}


def find_object(name: str) -> ObjectDef | None:
    """The sObject of that name in any case."""
    return _BY_LOW.get(name.lower())
