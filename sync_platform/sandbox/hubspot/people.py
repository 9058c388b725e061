"""What a seeded record of each object holds."""

from __future__ import annotations

import random
from typing import Final

from sync_platform.sandbox.hubspot.defaults import INDUSTRIES, LEAD_STATUS, LIFECYCLE, STAGES
from sync_platform.sandbox.kit import Fields, Person

_STAGES: Final = [option.value for option in LIFECYCLE[:6]]
_STATUS: Final = [option.value for option in LEAD_STATUS]
_DEAL: Final = [option.value for option in STAGES]
_INDUSTRY: Final = [option.value for option in INDUSTRIES]


def seed_fields(stream: str, person: Person, rng: random.Random) -> Fields:
    """The fields of one invented record, as the vendor stores them."""
    match stream:
        case "contacts":
            fields = {
                "firstname": person.first,
                "lastname": person.last,
                "email": person.email.strip().lower(),
                "company": person.company,
                "phone": person.phone,
                "city": person.city,
                "country": person.country,
                "jobtitle": person.title or None,
                "lifecyclestage": rng.choice(_STAGES),
                "hs_lead_status": rng.choice(_STATUS),
            }
        case "companies":
            fields = {
                "name": person.company,
                "domain": f"{person.number}-{person.domain}",
                "website": f"{person.number}-{person.domain}",
                "phone": person.phone,
                "city": person.city,
                "country": person.country,
                "industry": rng.choice(_INDUSTRY),
                "numberofemployees": str(rng.randint(1, 9000)),
                "annualrevenue": f"{rng.randint(10, 90_000_000)}.{rng.randint(0, 99):02d}",
                "lifecyclestage": rng.choice(_STAGES),
            }
        case "deals":
            fields = {
                "dealname": f"{person.company} #{person.number}",
                "amount": f"{rng.randint(1, 900_000)}.{rng.randint(0, 99):02d}",
                "pipeline": "default",
                "dealstage": rng.choice(_DEAL),
                "dealtype": rng.choice(("newbusiness", "existingbusiness")),
            }
        case "tickets":
            fields = {
                "subject": f"{person.first} {person.last}: {person.company}",
                "content": f"Call back {person.phone}",
                "hs_pipeline": "0",
                "hs_pipeline_stage": rng.choice("1234"),
                "hs_ticket_priority": rng.choice(("LOW", "MEDIUM", "HIGH")),
            }
        case _:
            fields = {
                "name": f"Item {person.number}",
                "quantity": str(rng.randint(1, 50)),
                "price": f"{rng.randint(1, 5000)}.{rng.randint(0, 99):02d}",
                "hs_sku": f"SKU-{person.number:06d}",
            }
    return {name: value for name, value in fields.items() if value is not None}
