"""What turns a face into features: small networks trained here, and architectures with public weights."""
