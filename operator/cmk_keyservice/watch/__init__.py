"""The OrganizationKey objects: `status.accepted` in, `status.dataKeys` out."""
