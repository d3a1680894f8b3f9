import { bootEngine } from '../engine/engine-boot.ts';

void bootEngine();
