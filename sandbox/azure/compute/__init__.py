"""Azure compute: disk encryption sets, managed disks, and virtual machines enough to hold them."""
