package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/polargo/polar/backend"
)

// versionCommand is 'polar version'.
type versionCommand struct{}

// Run prints what decides the numbers of a run: polar, Go, the libraries, vector instructions.
func (*versionCommand) Run(p *program) error {
	rows := [][]string{{"go", runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH}}
	polar := "unknown version"
	if info, ok := debug.ReadBuildInfo(); ok {
		polar = info.Main.Version
		for _, setting := range info.Settings {
			if slices.Contains([]string{"vcs.revision", "vcs.modified", "GOEXPERIMENT"}, setting.Key) {
				rows = append(rows, []string{setting.Key, setting.Value})
			}
		}
		for _, module := range info.Deps {
			if strings.HasPrefix(module.Path, "github.com/gomlx/") {
				rows = append(rows, []string{module.Path, module.Version})
			}
		}
	}
	rows = append(rows, []string{"backend", backend.Name("")}, []string{"instructions", backend.Instructions("")})
	if _, err := fmt.Fprintf(p.stdout, "polar %s\n", polar); err != nil {
		return err
	}
	table(p.stdout, rows)
	return nil
}
