package adapter

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/polargo/polar/internal/nearest"
	"github.com/polargo/polar/param"
)

// AllLinear is the target that means every layer given.
const AllLinear = "all-linear"

// Select returns the layers that match at least one of the targets, in the order of layers, each once. A target is
//   - a layer's full name or a dotted suffix of it: "q_proj", "mlp.up_proj";
//   - a glob, where * stands for any characters, dots too: "model.layers.*.mlp.*", "*.q_proj";
//   - a regular expression between slashes, matching the whole name as PEFT's does: "/.*layers\.[0-3]\..*proj/";
//   - "all-linear", also meant by no targets at all.
//
// It returns one error naming every target that is not valid or matches nothing, with the nearest names there are.
func Select(layers []param.Layer, targets []string) ([]param.Layer, error) {
	if err := checkNames(layers); err != nil {
		return nil, err
	}
	if len(targets) == 0 {
		targets = []string{AllLinear}
	}
	chosen := make([]bool, len(layers))
	var problems []string
	for _, target := range targets {
		match, err := matcher(target)
		if err != nil {
			problems = append(problems, err.Error())
			continue
		}
		found := false
		for i, layer := range layers {
			if match(layer.Name) {
				chosen[i], found = true, true
			}
		}
		if !found {
			problems = append(problems, nothingMatched(layers, target))
		}
	}
	if len(problems) > 0 {
		return nil, fmt.Errorf("select layers: %s", strings.Join(problems, "; "))
	}
	var out []param.Layer
	for i, layer := range layers {
		if chosen[i] {
			out = append(out, layer)
		}
	}
	return out, nil
}

func checkNames(layers []param.Layer) error {
	if len(layers) == 0 {
		return fmt.Errorf("select layers: the model has no linear layers to adapt")
	}
	seen := make(map[string]bool, len(layers))
	for _, layer := range layers {
		if layer.Name == "" || seen[layer.Name] {
			return fmt.Errorf("select layers: layer name %q is empty or used twice", layer.Name)
		}
		seen[layer.Name] = true
	}
	return nil
}

func isRegexp(target string) bool {
	return len(target) > 2 && strings.HasPrefix(target, "/") && strings.HasSuffix(target, "/")
}

// matcher returns the predicate a target stands for.
func matcher(target string) (func(name string) bool, error) {
	switch {
	case strings.TrimSpace(target) == "":
		return nil, fmt.Errorf("an empty target; use %q for all layers", AllLinear)
	case target == AllLinear:
		return func(string) bool { return true }, nil
	case isRegexp(target):
		re, err := regexp.Compile(`^(?:` + target[1:len(target)-1] + `)$`)
		if err != nil {
			return nil, fmt.Errorf("target %s is not a valid regular expression: %w", target, err)
		}
		return re.MatchString, nil
	case strings.ContainsAny(target, "*?["):
		if _, err := path.Match(target, ""); err != nil {
			return nil, fmt.Errorf("target %q is not a valid pattern: %w", target, err)
		}
		return func(name string) bool {
			whole, _ := path.Match(target, name)
			suffix, _ := path.Match("*."+target, name)
			return whole || suffix
		}, nil
	}
	return func(name string) bool { return hasSuffix(name, target) }, nil
}

// hasSuffix reports whether name is suffix or ends with it after a dot.
func hasSuffix(name, suffix string) bool {
	return name == suffix || strings.HasSuffix(name, "."+suffix)
}

// nothingMatched says that a target matches nothing, and what is near it.
func nothingMatched(layers []param.Layer, target string) string {
	if isRegexp(target) {
		if re, err := regexp.Compile(target[1 : len(target)-1]); err == nil {
			for _, layer := range layers {
				if re.MatchString(layer.Name) {
					return fmt.Sprintf("target %s matches no layer's whole name; try /.*%s.*/", target, target[1:len(target)-1])
				}
			}
		}
		return fmt.Sprintf("target %s matches nothing; the layers are named like %s", target, strings.Join(endings(layers), ", "))
	}
	for _, layer := range layers {
		if strings.Contains("."+layer.Name, "."+target+".") {
			return fmt.Sprintf("target %q is no linear layer; for those inside it use \"*.%s.*\"", target, target)
		}
	}
	return fmt.Sprintf("target %q matches nothing; nearest: %s", target, strings.Join(nearest.Words(target, candidates(layers, target), 3), ", "))
}

// endings returns the distinct last parts of the layers' names in order.
func endings(layers []param.Layer) []string {
	var out []string
	for _, layer := range layers {
		if end := layer.Name[strings.LastIndexByte(layer.Name, '.')+1:]; !slices.Contains(out, end) {
			out = append(out, end)
		}
	}
	return out
}

// candidates returns the names that a mistyped target may have meant: the distinct suffixes with as many parts, then the
// full names.
func candidates(layers []param.Layer, target string) []string {
	parts := strings.Count(target, ".") + 1
	seen := make(map[string]bool)
	var out []string
	add := func(name string) {
		if !seen[name] {
			seen[name] = true
			out = append(out, name)
		}
	}
	for _, layer := range layers {
		fields := strings.Split(layer.Name, ".")
		add(strings.Join(fields[max(0, len(fields)-parts):], "."))
	}
	for _, layer := range layers {
		add(layer.Name)
	}
	return out
}
