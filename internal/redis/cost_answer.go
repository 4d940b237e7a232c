package redis

// perAnswered is what a byte of an answer counts in an estimate, in nanoseconds: a
// batch has up to togetherAnswers.
const perAnswered = float64(slowBudget) / togetherAnswers

// answer is how many bytes the answer has, once the sizes are known. sure: it is not
// guessed by another one.
func (e *estimate) answer(sizes []float64) (bytes float64, sure bool) {
	switch {
	case e.ranged:
		return e.cost(sizes[:e.timed]) / perByte, true
	case e.whole:
		return together(sizes), true
	case len(e.asks) > e.timed:
		return together(sizes[e.timed:]), true
	}
	return e.length, false
}
