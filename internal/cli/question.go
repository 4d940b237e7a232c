package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
)

// errNothingChanged is the error of a command that was not to go on.
var errNothingChanged = errors.New("nothing was changed")

// ask puts a question on a terminal, and is nil when the answer is yes. Ctrl-C is a no.
// Where nobody can be asked, the error is a usageError of these words.
func ask(ctx context.Context, g *globals, question, otherwise string) error {
	in, ok := g.stdin.(*os.File)
	if !ok || !terminal(in) {
		return usagef("%s", otherwise)
	}
	fmt.Fprintf(g.stderr, "%s [y/N] ", question)
	answered := make(chan string, 1)
	go func() { // it ends with the program, where there is no answer
		line, _ := bufio.NewReader(in).ReadString('\n')
		answered <- line
	}()
	select {
	case line := <-answered:
		switch strings.ToLower(strings.TrimSpace(line)) {
		case "y", "yes":
			return nil
		}
	case <-ctx.Done():
		fmt.Fprintln(g.stderr)
	}
	return errNothingChanged
}
