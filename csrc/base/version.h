/* The version of ldlua, of its core and of its Lua modules: one number for all. */
#ifndef LD_VERSION_H
#define LD_VERSION_H

#define LD_VERSION "0.1.0"

#endif
