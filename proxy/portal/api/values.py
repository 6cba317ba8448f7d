"""What the documents of the API share."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query
from pydantic import BaseModel, ConfigDict, Field

from proxy.policy import CallClass, ClassOfService, parse_patterns
from proxy.policy.patterns import refuse_empty
from proxy.portal.api.problems import naming

__all__ = ["Cursor", "Limit", "RowId", "Service", "Values", "service_document"]

RowId = Annotated[int, Path(ge=1, le=2**53)]
Limit = Annotated[int, Query(ge=1, le=1000, description="At most so many.")]
Cursor = Annotated[
    str, Query(max_length=32, description="Where the page begins: ``next`` of the page before.")
]


class Values(BaseModel):
    """A document that a program sends: what is not known is refused."""

    model_config = ConfigDict(extra="forbid")


class Service(Values):
    """A class of service: call classes, and exceptions by number; ``permitted`` wins."""

    classes: list[CallClass] = Field(default_factory=list)
    restricted: list[str] = Field(default_factory=list, max_length=1000)
    permitted: list[str] = Field(default_factory=list, max_length=1000)

    def make(self, field: str) -> ClassOfService:
        """Return it as the policy has it."""
        lists = []
        for name, texts in (("restricted", self.restricted), ("permitted", self.permitted)):
            with naming(f"{field}.{name}"):
                patterns = parse_patterns(texts)
                for pattern in patterns:
                    refuse_empty(pattern)
            lists.append(patterns)
        return ClassOfService(frozenset(self.classes), *lists)


def service_document(service: ClassOfService) -> Service:
    """Return a class of service as a document."""
    return Service(
        classes=sorted(service.classes),
        restricted=[pattern.text for pattern in service.restricted],
        permitted=[pattern.text for pattern in service.permitted],
    )
