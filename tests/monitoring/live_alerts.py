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
        "CmkAuditUndelivered",
        "CmkStatusWritesFailing",
        "CmkAzureBudgetExhausted",
    }
)
"""By the operator in tests/engine/test_alerts.py."""

SEEN_OF_THE_KEY_SERVICE: Final = frozenset(
    {
        "CmkKeyServiceDown",
        "CmkKeyServiceNotReady",
        "CmkKeyServiceCannotReviewCallers",
        "CmkKeyServiceRefusesItems",
        "CmkKeyServiceErrors",
        "CmkKeyServiceCertificateExpires",
    }
)
"""By the key service in tests/keyservice/http/test_alerts.py."""

SEEN_WITH_A_BUG: Final = frozenset({"CmkNotSeenLately", "CmkReconcileErrors"})
"""By the operator with a bug that tests/engine/test_old_claims.py adds: of the product no bug is known."""

SEEN_IN_SCENARIOS: Final = {
    "CmkSqlDatabasesInaccessible": "tests/e2e/test_sql.py",
    "CmkRotationFailing": "tests/e2e/test_coverage.py",
    "CmkOrganizationNotServed": "tests/e2e/test_organization_scenarios.py",
    "CmkOrganizationCredentialExpires": "tests/e2e/test_organization_keys.py",
    "CmkKeyVersionLag": "tests/engine/test_long_operations.py",
    "CmkOperationStuck": "tests/engine/test_long_operations.py",
}
"""By the operator in the test of the state that the alert is about.

For the last two the test makes the times in status earlier while no operator runs, as if nobody had run one for hours.
"""

NOT_REACHED: Final = {
    "CmkKeyProbeStale": "needs five minutes without a probe, in which old claims would be withdrawn first",
    "CmkOperatorStuck": "needs passes that all hang for two minutes",
}
"""Alerts that fire only over made-up series (tests/monitoring/*_test.yaml), and why."""
