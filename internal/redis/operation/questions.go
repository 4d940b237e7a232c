package operation

import (
	"github.com/redis/rueidis"

	"holdfast/internal/redis/command"
	"holdfast/internal/redis/cost"
)

// Questioner asks a server for what estimates need.
type Questioner struct {
	B     rueidis.Builder
	Plain func(command.Command) rueidis.Completed
	// Send sends commands and returns their answers.
	Send func(rueidis.Commands) []rueidis.RedisResult
}

// Ask asks for the sizes of the keys of some operations and then, where these are
// large enough, for how many bytes they have. An error means that the connection was
// lost.
func (q *Questioner) Ask(batch []*Operation) error {
	err := q.round(batch, func(e *cost.Estimate) []command.Command { return e.Asks }, func(e *cost.Estimate, told []float64) { e.Sizes = told })
	if err != nil {
		return err
	}
	return q.round(batch, (*cost.Estimate).Weighs, func(e *cost.Estimate, told []float64) { e.Weights = told })
}

// round sends one kind of questions, each of which Redis answers with a number. An
// error in its place, since a key has another type or is elsewhere, counts as 0, and so
// does what needs no question.
func (q *Questioner) round(batch []*Operation, questions func(*cost.Estimate) []command.Command, tell func(e *cost.Estimate, told []float64)) error {
	var cmds rueidis.Commands
	var told []*float64
	for _, o := range batch {
		for i := range o.estimates {
			e := &o.estimates[i]
			asks := questions(e)
			numbers := make([]float64, len(asks))
			for j, ask := range asks {
				if ask == nil {
					continue
				}
				cmds = append(o.Asked(q.B, cmds), q.Plain(ask))
				for len(told) < len(cmds)-1 {
					told = append(told, nil) // the answer to ASKING
				}
				told = append(told, &numbers[j])
			}
			tell(e, numbers)
		}
	}
	if len(cmds) == 0 {
		return nil
	}

	answers := q.Send(cmds)
	if err := answers[len(answers)-1].NonRedisError(); err != nil {
		return err
	}
	for i, number := range told {
		if number != nil {
			n, _ := answers[i].AsInt64()
			*number = float64(n)
		}
	}
	return nil
}
