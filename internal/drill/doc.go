// Package drill breaks a stack under load and judges what its clients saw: the
// script of a drill (course.go), one file for each fault, what undoes a fault
// even when the drill itself is killed (undo.go), and hosts to cut off from
// each other (hosts.go). The load is package load's, the judgement package
// history's, and the page to read package report's.
package drill
