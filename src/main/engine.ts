import { EngineServer } from '../engine/engine-server.ts';

new EngineServer().run();
