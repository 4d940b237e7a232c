package cost

import (
	"slices"
	"strings"

	"holdfast/internal/redis/command"
)

// stringCost is the estimate of what is about the bytes of a string.
func stringCost(s *command.Spec, cmd command.Command) (Estimate, bool) {
	switch s.Name {
	case "getrange", "substr":
		return ofRange(perByte, "a shorter range", "STRLEN", cmd[1], cmd[2], cmd[3]), true
	case "bitcount", "bitpos":
		first := map[string]int{"bitcount": 2, "bitpos": 3}[s.Name]
		if len(cmd) < first+2 || strings.EqualFold(cmd[len(cmd)-1], "bit") {
			return ofAll(perByte, "a range", "STRLEN", cmd[1]), true
		}
		return ofRange(perByte, "a shorter range", "STRLEN", cmd[1], cmd[first], cmd[first+1]), true
	case "bitop":
		e := ofKeys(cmd[3:], "STRLEN")
		e.cost = func(sizes []float64) float64 { return slices.Max(sizes) * float64(len(sizes)) }
		e.Instead = "shorter strings"
		return e, true
	case "lcs":
		e := ofKeys(cmd[1:3], "STRLEN")
		e.cost = func(sizes []float64) float64 { return perCell * sizes[0] * sizes[1] }
		e.Instead = "shorter strings"
		return e, true
	case "setrange", "setbit", "bitfield":
		e := ofKeys(cmd[1:2], "STRLEN")
		end := lastByte(s, cmd)
		if end > longestString {
			return Estimate{}, true // Redis refuses it
		}
		e.cost = func(sizes []float64) float64 {
			if end <= sizes[0] {
				return 0
			}
			return perZeroed*(end-sizes[0]) + perByte*sizes[0] // what is there may have to move
		}
		e.Instead = "a lower offset"
		return e, true
	}
	return Estimate{}, false
}

// lastByte is up to where a string grows by SETRANGE, SETBIT or BITFIELD.
func lastByte(s *command.Spec, cmd command.Command) (last float64) {
	switch s.Name {
	case "setrange":
		return command.Number(cmd[2]) + float64(len(cmd[3]))
	case "setbit":
		return command.Number(cmd[2]) / 8
	}
	for i := 2; i+2 < len(cmd); i++ {
		if !strings.EqualFold(cmd[i], "set") && !strings.EqualFold(cmd[i], "incrby") {
			continue
		}
		at, scale := cmd[i+2], 1.0
		if strings.HasPrefix(at, "#") {
			at, scale = at[1:], 64 // as wide as the widest type
		}
		last = max(last, command.Number(at)*scale/8)
	}
	return last
}
