// Package containers tests the stack in containers, with a real dockerd and Docker Compose.
// 'make test-containers' makes both ready, and the images that are tested.
//
// docker_test.go has what a test of one container needs: loadedImage gives an image to the
// engine, start starts a container that is removed at the end. HOLDFAST_IMAGES is a
// directory that 'make image' wrote; without it the first test that needs one calls that.
// compose_test.go takes the image that HOLDFAST_STACK_IMAGE names.
package containers
