"""Disk encryption sets and disks (`Microsoft.Compute/diskEncryptionSets`, `Microsoft.Compute/disks`)."""
