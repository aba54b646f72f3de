// Package param says what a trainable variable is: which part of which linear layer, how wide, on which side of a
// low-rank pair. Optimizers route by this description and never by a variable's name or axis order.
//
// A Spec is kept in the GoMLX store beside its variable (as a string hyperparameter), so that any GoMLX program can tag
// its variables and hand the store to one of Polar's optimizers. Nothing here holds a lock: tag variables from the
// goroutine that builds the model.
package param
