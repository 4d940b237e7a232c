package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
)

// errNothingChanged is the error of a command whose user did not want to go on.
var errNothingChanged = errors.New("nothing was changed")

// ask asks a question on the terminal, and returns nil if the answer is yes. Ctrl-C means no.
// Without a terminal it returns a usage error with the text otherwise.
func ask(ctx context.Context, g *globals, question, otherwise string) error {
	in, ok := g.stdin.(*os.File)
	if !ok || !terminal(in) {
		return usagef("%s", otherwise)
	}
	fmt.Fprintf(g.stderr, "%s [y/N] ", question)
	answered := make(chan string, 1)
	go func() { // without an answer it ends with the program
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
