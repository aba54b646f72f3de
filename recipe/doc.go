// Package recipe repeats published experiments: each recipe is a named experiment with settings that come with the program,
// trials that are run once and kept, and a report that holds what was measured against what was published.
//
// A trial is a function of its recipe's settings, its learning rate and its seed. Nothing else decides its numbers: not
// which trials ran before, nor whether the program was stopped in between, which is why a run that was killed goes on to the same
// report. Trials that share a compiled graph form a group and run one after another; nothing here computes on more than one
// goroutine, because the default backend uses all cores for one product.
//
// Settings are in the YAML files of this folder, one section for each size. They are part of a run folder's identity: a folder
// made with others is refused, not mixed.
//
// To add a recipe: a YAML file, a type that implements experiment (the groups of its plan, and a judge that turns results into
// claims, tables and figures), and a line in the list of recipes.
package recipe
