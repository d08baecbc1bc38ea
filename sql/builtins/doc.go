// Package builtins is the SQL function library.
package builtins
