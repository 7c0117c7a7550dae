"""Which alerts a real process fires in a test, and why the others cannot be reached there."""

from __future__ import annotations

from typing import Final

SEEN_END_TO_END: Final = frozenset(
    {
        "CmkKeyInaccessible",
        "CmkOldKeyVersionLost",
        "CmkVaultUnreachable",
        "CmkConsentRevoked",
        "CmkUnusedKeyInaccessible",
        "CmkKeyStateUnknown",
        "CmkKeyNeverProbed",
        "CmkSupersededKeyVersionLost",
        "CmkRotationAwaitsApproval",
        "CmkPrerequisiteMissing",
        "CmkResourceNeedsAPerson",
        "CmkResourceContested",
        "CmkResourceNotEncrypted",
        "CmkIdentityNotReady",
        "CmkOperatorDown",
        "CmkOperatorNotLeading",
        "CmkAzureThrottled",
        "CmkAzureErrors",
        "CmkOrganizationKeyInaccessible",
        "CmkOrganizationKeyStateUnknown",
        "CmkOrganizationKeyNeedsAPerson",
    }
)
"""By the operator in tests/e2e/test_alerts.py."""

SEEN_BEHIND_FAULTS: Final = frozenset(
    {
        "CmkKeyExpiresIn30Days",
        "CmkKeyExpiresIn7Days",
        "CmkKeyExpiresIn1Day",
        "CmkKindNotWatched",
        "CmkNotificationsFailing",
        "CmkAuditNotWritten",
    }
)
"""By the operator in tests/engine/test_alerts.py."""

NOT_REACHED: Final = {
    "CmkSqlDatabasesInaccessible": "a server with databases takes long to make; the metric itself is read from the running operator "
    "in tests/e2e/test_sql.py",
    "CmkKeyProbeStale": "needs five minutes without a probe, in which old claims would be withdrawn first",
    "CmkKeyVersionLag": "needs a resource that stays behind for 26 hours, or for three for a disk",
    "CmkRotationFailing": "a disk encryption set reports a failed rotation only beside machines that are started and stopped",
    "CmkOperationStuck": "needs an operation of two hours",
    "CmkOperatorStuck": "needs a reconcile that hangs for two minutes: a fault of the operator, and none is known",
    "CmkNotSeenLately": "needs three intervals without a reconcile: a fault of the operator, or a standstill of minutes",
    "CmkReconcileErrors": "needs a reconcile that raises: a fault of the operator, and none is known",
    "CmkAzureBudgetExhausted": "with a budget so small that it is spent in a test, no key becomes Ready in one",
    "CmkStatusWritesFailing": "the operator pauses longer and longer between failing writes, so no scrape of seconds sees one each minute",
    "CmkAuditUndelivered": "needs a sink that fails for an hour",
    "CmkOrganizationNotServed": "needs the key service with its database",
    "CmkOrganizationCredentialExpires": "needs Secrets that the operator of these tests may not read",
    "CmkKeyServiceDown": "needs the key service with its database",
    "CmkKeyServiceNotReady": "as the one before",
    "CmkKeyServiceCannotReviewCallers": "as the one before",
    "CmkKeyServiceRefusesItems": "as the one before",
    "CmkKeyServiceErrors": "needs a fault of the key service",
    "CmkKeyServiceCertificateExpires": "needs the key service with a certificate that ends within a week",
}
"""Alerts that fire only over made-up series (tests/monitoring/*_test.yaml), and why."""
