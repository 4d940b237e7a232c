// Package containers tests the stack in containers, with a real dockerd and Docker Compose. 'make
// test-containers' prepares both, and the images under test.
//
// docker_test.go has what a test of one container needs: loadedImage loads an image into the
// engine, and start starts a container that is removed at the end. HOLDFAST_IMAGES is a directory
// that 'make image' wrote; without it, the first test that needs an image runs 'make image'.
// compose_test.go uses the image that HOLDFAST_STACK_IMAGE names.
package containers
