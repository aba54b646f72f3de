package cli

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// condense writes names with common forms as few patterns, in order of first appearance:
// model.layers.{0..29}.self_attn.{q,k,v,o}_proj. Numbers between dots become ranges; last parts that occur under the same
// parents become alternatives.
func condense(names []string) []string {
	numbers := map[string][]int{} // form with # for the number -> numbers
	var forms []string
	for _, name := range names {
		form, number := numbered(name)
		if _, seen := numbers[form]; !seen {
			forms = append(forms, form)
		}
		if number >= 0 {
			numbers[form] = append(numbers[form], number)
		} else {
			numbers[form] = nil
		}
	}
	lasts := map[string][]string{} // parent with its ranges -> last parts
	var parents []string
	for _, form := range forms {
		parent, last := "", form
		if dot := strings.LastIndexByte(form, '.'); dot >= 0 && !strings.Contains(form[dot:], "#") {
			parent, last = form[:dot+1], form[dot+1:]
		}
		key := strings.Replace(parent, "#", ranges(numbers[form]), 1)
		last = strings.Replace(last, "#", ranges(numbers[form]), 1)
		if _, seen := lasts[key]; !seen {
			parents = append(parents, key)
		}
		lasts[key] = append(lasts[key], last)
	}
	var out []string
	for _, parent := range parents {
		out = append(out, parent+alternatives(lasts[parent]))
	}
	return out
}

// numbered replaces the first part of a name that is a number by #; number is -1 where there is none.
func numbered(name string) (form string, number int) {
	parts := strings.Split(name, ".")
	for i, part := range parts {
		if n, err := strconv.Atoi(part); err == nil && n >= 0 {
			parts[i] = "#"
			return strings.Join(parts, "."), n
		}
	}
	return name, -1
}

// ranges writes numbers as 3, {0..29} or {0..3,7}.
func ranges(numbers []int) string {
	sorted := slices.Clone(numbers)
	slices.Sort(sorted)
	sorted = slices.Compact(sorted)
	var runs []string
	for i := 0; i < len(sorted); {
		j := i
		for j+1 < len(sorted) && sorted[j+1] == sorted[j]+1 {
			j++
		}
		switch {
		case j == i:
			runs = append(runs, strconv.Itoa(sorted[i]))
		default:
			runs = append(runs, fmt.Sprintf("%d..%d", sorted[i], sorted[j]))
		}
		i = j + 1
	}
	text := strings.Join(runs, ",")
	if len(sorted) > 1 {
		return "{" + text + "}"
	}
	return text
}

// alternatives writes words as one, taking a common ending such as _proj out of the braces.
func alternatives(words []string) string {
	if len(words) == 1 {
		return words[0]
	}
	ending := ""
	if cut := strings.LastIndexByte(words[0], '_'); cut > 0 {
		ending = words[0][cut:]
	}
	stems := make([]string, len(words))
	for i, word := range words {
		stem, ok := strings.CutSuffix(word, ending)
		if !ok || stem == "" {
			return "{" + strings.Join(words, ",") + "}"
		}
		stems[i] = stem
	}
	return "{" + strings.Join(stems, ",") + "}" + ending
}
