"""`kubectl cmk`: what people ask of the operator. Reads manifests and status through kubectl; imports nothing that acts."""
