"""Argo CD's ConfigMap takes what is shipped, and keeps what was there."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import yaml

from tests.gitops.law import ARGO_CD

if TYPE_CHECKING:
    from sandbox.kubernetes.cluster import Cluster


def test_the_configmap_is_patched_with_the_file_and_keeps_its_other_settings(cluster: Cluster) -> None:
    cluster.kubectl("create", "namespace", "argocd")
    cluster.kubectl(
        "create", "configmap", "argocd-cm", "--namespace", "argocd", "--from-literal", "url=https://argo.example.com"
    )
    cluster.kubectl(*f"patch configmap argocd-cm --namespace argocd --type merge --patch-file {ARGO_CD}".split())
    kept = json.loads(cluster.kubectl("get", "configmap", "argocd-cm", "--namespace", "argocd", "--output", "json"))["data"]
    assert kept == {"url": "https://argo.example.com", **yaml.safe_load(ARGO_CD.read_text(encoding="utf-8"))["data"]}
