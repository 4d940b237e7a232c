// Command lint checks a Dockerfile by BuildKit's own rules, as 'docker build --check' does, and
// fails if there is any finding. It is a module of its own, because BuildKit has many dependencies
// that nothing else here needs.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(files []string) error {
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		source := llb.NewSourceMap(nil, file, "Dockerfile", text)
		source.Definition = &llb.Definition{}
		result, err := dockerfile2llb.DockerfileLint(context.Background(), text, dockerfile2llb.ConvertOpt{SourceMap: source})
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if result.Error != nil {
			return fmt.Errorf("%s: %s", file, result.Error.Message)
		}
		for _, w := range result.Warnings {
			err = fmt.Errorf("%s: %s: %s", file, w.RuleName, w.Detail)
			fmt.Fprintln(os.Stderr, err)
		}
		if err != nil {
			return fmt.Errorf("%s: %d warnings", file, len(result.Warnings))
		}
	}
	return nil
}
