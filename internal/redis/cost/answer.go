package cost

// Answer is how many bytes the answer has, once the sizes are known. sure: it is not
// guessed by another one.
func (e *Estimate) Answer(sizes []float64) (bytes float64, sure bool) {
	switch {
	case e.Ranged:
		return e.cost(sizes[:e.Timed]) / perByte, true
	case e.Whole:
		return together(sizes), true
	case len(e.Asks) > e.Timed:
		return together(sizes[e.Timed:]), true
	}
	return e.Length, false
}
