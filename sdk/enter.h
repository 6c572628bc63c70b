#ifndef PIER_SDK_ENTER_H
#define PIER_SDK_ENTER_H
/*
 * What was entered into a scope.
 */
#include "sdk/scope.h"

/* Closes it, newest first, after that of the scopes inside it which were forgotten. By whoever
 * closes the scope. */
void pier__scope_close_entered(pier_scope *scope);

#endif
