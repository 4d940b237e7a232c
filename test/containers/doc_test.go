// Package containers tests the stack in containers, with a real dockerd and Docker Compose.
// scripts/setup --containers makes both ready; HOLDFAST_STACK_IMAGE names the image.
package containers
