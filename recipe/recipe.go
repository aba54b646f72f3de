package recipe

import (
	"context"
	_ "embed"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/gomlx/compute"
	"github.com/polargo/polar/internal/nearest"
)

// Size says how much of an experiment is run.
type Size string

// The sizes: Quick takes minutes and says which conclusions it cannot support, Full is the published grid.
const (
	Quick Size = "quick"
	Full  Size = "full"
)

// Recipe is a named experiment.
type Recipe struct {
	// Name is what the user types, Summary one line on what is measured, Source what it repeats.
	Name, Summary, Source string
	// settings is the YAML text with one section for each size.
	settings []byte
	// open reads one section of the settings.
	open func(section []byte) (experiment, error)
}

// experiment is a recipe with its settings, of one size.
type experiment interface {
	// defaultSeeds is the number of seeds when the user names none.
	defaultSeeds() int
	// plan lists the trials for these seeds, in the order in which they run, gathered by the graph that they share.
	plan(seeds []int64) []group
	// judge turns the results of all planned trials into findings.
	judge(r Results) Findings
}

// group is trials that share what open prepares: variables and compiled graphs.
type group struct {
	// name says what the group is in progress lines.
	name   string
	order  int // for plans that sort their groups
	open   func(engine compute.Backend) (session, error)
	trials []Trial
}

// session runs the trials of a group, each from a fresh state.
type session interface {
	// run trains one trial to its end and returns what it measured. It stops with ctx's error.
	run(ctx context.Context, t Trial) (Result, error)
	close()
}

//go:embed xor.yaml
var xorSettings []byte

//go:embed mod31.yaml
var mod31Settings []byte

// recipes lists the experiments in the order in which they are shown.
func recipes() []Recipe {
	return []Recipe{
		{
			Name:     "xor",
			Summary:  "the best learning rate is the same for all widths when weights stay in spectral sets",
			Source:   "Cesista 2025, \"Rethinking Maximal Update Parametrization: Steepest Descent on the Spectral Ball\", section 6.1",
			settings: xorSettings, open: openXOR,
		},
		{
			Name:     "mod31",
			Summary:  "directions in the tangent cone keep updates large after the retraction and generalise in fewer steps",
			Source:   "Cesista 2025, \"Rethinking Maximal Update Parametrization: Steepest Descent on the Spectral Ball\", section 6.2",
			settings: mod31Settings, open: openMod31,
		},
	}
}

// Known lists the recipes by name and summary.
func Known() []Recipe { return recipes() }

// Find returns the recipe called name. An unknown name is an error that lists the known ones and the nearest.
func Find(name string) (Recipe, error) {
	var names []string
	for _, r := range recipes() {
		if r.Name == name {
			return r, nil
		}
		names = append(names, r.Name)
	}
	near := ""
	if word := nearest.Word(name, names); word != "" {
		near = fmt.Sprintf("; did you mean %s?", word)
	}
	return Recipe{}, fmt.Errorf("unknown experiment %q; known: %s%s", name, strings.Join(names, ", "), near)
}

// section returns the settings of one size as YAML.
func (r Recipe) section(size Size) ([]byte, error) {
	var sections map[Size]yaml.MapSlice
	if err := yaml.Unmarshal(r.settings, &sections); err != nil {
		return nil, fmt.Errorf("settings of %s: %w", r.Name, err)
	}
	section, ok := sections[size]
	if !ok {
		return nil, fmt.Errorf("settings of %s have no section %q", r.Name, size)
	}
	return yaml.MarshalWithOptions(section, yaml.Flow(false))
}

// readSettings decodes a section; a key that nobody knows is an error.
func readSettings(section []byte, into any) error {
	return yaml.UnmarshalWithOptions(section, into, yaml.Strict())
}
