package plan

import (
	"strconv"
	"strings"
)

// The name of a node is its kind, or its application's name, and a number from 1: "redis-2".

// KindByName returns Redis or Sentinel for a name that only a node of that kind can have, and ""
// for every other name. It is for callers that know no more than the name. No application may have
// such a name.
func KindByName(node string) Kind {
	kind, number, _ := strings.Cut(node, "-")
	if _, err := strconv.Atoi(number); err != nil {
		return ""
	}
	switch k := Kind(kind); k {
	case Redis, Sentinel:
		return k
	}
	return ""
}

// NodeNumber returns the number at the end of a node's name; 0: there is none.
func NodeNumber(node string) int {
	n, _ := strconv.Atoi(node[strings.LastIndexByte(node, '-')+1:])
	return n
}
