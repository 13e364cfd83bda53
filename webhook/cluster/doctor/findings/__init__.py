"""What can keep a pod out of its mesh, one file each."""
